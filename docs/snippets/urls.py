"""Where the example's view is mounted."""

from django.urls import path

from . import views

urlpatterns = [path("correspondences/<int:correspondence>/", views.send_message)]
