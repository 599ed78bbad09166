"""What people type: recipes, commands, pages."""
